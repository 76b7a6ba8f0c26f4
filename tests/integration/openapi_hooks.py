# SPDX-License-Identifier: Apache-2.0
"""For schemathesis, which runs in a process and an environment of its own (test_controller_openapi.py):
what a schema cannot say of a good request."""

import os

import schemathesis


def whole(value):
    """To JSON Schema 5.0 is an integer, and one may have any size; the controller reads integers without a
    fraction, of 64 bits."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value if -(2**63) <= value < 2**63 else 0
    if isinstance(value, dict):
        return {k: whole(v) for k, v in value.items()}
    return [whole(v) for v in value] if isinstance(value, list) else value


@schemathesis.hook
def before_call(context, case, kwargs):
    case.body, name = whole(case.body), case.operation.label
    if isinstance(case.body, dict) and name == "POST /v1/models" and "run" in case.body:
        case.body["run"] = os.environ["ADA_RUN"]
    if isinstance(case.body, dict) and name == "POST /v1/node/poll" and "wait_ms" in case.body:
        wait = case.body["wait_ms"]
        if isinstance(wait, int) and wait > 0:
            case.body["wait_ms"] = 1
