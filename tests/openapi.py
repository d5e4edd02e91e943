"""Validates an OpenAPI 3.1 document, and answers against the schemas that it has for them.

Standard input: {"document": ..., "answers": [{"template", "status", "body"}]}.
"""

import json
import sys

import jsonschema
import openapi_spec_validator

told = json.load(sys.stdin)
document = told["document"]
if hasattr(openapi_spec_validator, "validate"):
    openapi_spec_validator.validate(document)
else:
    openapi_spec_validator.validate_spec(document)

names = [
    operation["operationId"]
    for path in document["paths"].values()
    for operation in path.values()
]
assert len(names) == len(set(names)), "two operations have one name"

wrong = []
for answer in told["answers"]:
    responses = document["paths"][answer["template"]]["get"]["responses"]
    response = responses[answer["status"]]
    if "$ref" in response:
        response = document["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
    (content,) = response["content"].values()
    schema = {**content["schema"], "components": document["components"]}
    validator = jsonschema.Draft202012Validator(schema)
    for error in validator.iter_errors(answer["body"]):
        wrong.append(f"{answer['template']}: {error.json_path}: {error.message}")
if wrong:
    sys.exit("\n".join(wrong))
