"""`python docs/parameters.py > docs/parameters.md`: write the page from the schema."""

from collections.abc import Iterator
from typing import Any

from mnist_cnn.params import Params

HEAD = """\
# Parameters

This page lists every parameter in `params.yaml`, what it means and which values it can have. Change
them in the file, or for one [experiment](experiments.md) on the command line. Each stage checks all
of them before it computes anything. A range [a, b) includes a but not b.

| parameter | meaning | values |
|---|---|---|"""


def page() -> str:
    schema = Params.model_json_schema()
    return "\n".join([HEAD, *rows(schema, schema["$defs"], "")]) + "\n"


def rows(schema: dict[str, Any], definitions: dict[str, Any], prefix: str) -> Iterator[str]:
    """A row for each parameter of a JSON schema, with those of its sections and entries."""
    for name, field in schema["properties"].items():
        entry = field.get("items") or field.get("additionalProperties") or field
        reference = entry.get("$ref")
        if "description" in field:
            yield f"| `{prefix}{name}` | {field['description']} | {values(field)} |"
        if reference:
            separator = {"array": "[].", "object": ".DATASET."}.get(field.get("type"), ".")
            section = definitions[reference.removeprefix("#/$defs/")]
            yield from rows(section, definitions, f"{prefix}{name}{separator}")


def values(field: dict[str, Any]) -> str:
    """The type of a field, the range of a number, and whether it may be null."""
    first, *others = field.get("anyOf", [field])
    if others and "default" not in field:
        return f"{values(first)}, or null"
    field = first | field
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if field["type"] == "array" and "$ref" not in field["items"]:
        return f"list of {field['minItems']}: {values(field['items'])}"
    of_sections = "$ref" in field.get("additionalProperties", {})
    kind = {
        "array": "list of mappings, at least one",
        "boolean": "true or false",
        "object": f"mapping from {'datasets to limits' if of_sections else 'metrics to numbers'}",
        "string": "text",
    }.get(field["type"], field["type"])
    left = f"[{field['minimum']}" if "minimum" in field else f"({field.get('exclusiveMinimum')}"
    right = f"{field['maximum']}]" if "maximum" in field else f"{field.get('exclusiveMaximum')})"
    return f"{kind} in {left}, {right}" if kind in ("integer", "number") else kind


if __name__ == "__main__":
    print(page(), end="")
