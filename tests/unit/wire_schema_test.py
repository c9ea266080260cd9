"""The schemas are schemas, and each example is valid for its own file. Needs python3-jsonschema; skipped (77) without.

    wire_schema_test.py SCHEMAS
"""
import json
import pathlib
import sys

try:
    import jsonschema
except ImportError:
    print("python3-jsonschema is not installed")
    sys.exit(77)

files = sorted(pathlib.Path(sys.argv[1]).glob("*.json"))
assert len(files) >= 50, "schemas are missing"
for path in files:
    schema = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for example in schema["examples"]:
        validator.validate(example)
        for name in schema["required"]:
            less = {k: v for k, v in example.items() if k != name}
            assert not validator.is_valid(less), f"{path.name}: valid without {name}"
    assert not validator.is_valid([]), path.name
for path in sorted((pathlib.Path(sys.argv[1]) / "vectors").glob("*.json")):
    for row in json.loads(path.read_text(encoding="utf-8")):
        schema = json.loads((pathlib.Path(sys.argv[1]) / row["schema"]).read_text(encoding="utf-8"))
        jsonschema.validate(row["json"], schema, cls=jsonschema.Draft202012Validator)
