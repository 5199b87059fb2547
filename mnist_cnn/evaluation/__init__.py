"""Turn predictions into metrics, tables and figures."""
