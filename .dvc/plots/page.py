"""Write page.html, the template for the pages of `dvc plots show` and `dvc plots diff`.

It includes the JavaScript that draws the plots, so that the pages work without a network. After an
update of vl-convert-python, run `.venv/bin/python .dvc/plots/page.py`.
"""

from pathlib import Path

import vl_convert

HERE = Path(__file__).parent
HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Plots</title>
<style>
  body { display: flex; flex-wrap: wrap; gap: 2rem; margin: 1.5rem; font: 0.9rem sans-serif }
  body > div { max-width: 100%; overflow: auto; white-space: normal !important }
</style>
<!-- Written by .dvc/plots/page.py.
"""
BODY = """</script>
</head>
<body>
{plot_divs}
</body>
</html>
"""


def page() -> str:
    licenses = (HERE / "vega-licenses.txt").read_text(encoding="utf-8")
    return f"{HEAD}{licenses}-->\n<script>\n{vl_convert.javascript_bundle()}\n{BODY}"


if __name__ == "__main__":
    (HERE / "page.html").write_text(page(), encoding="utf-8")
