"""The logic, in plain values: what `app` binds to WebAssembly, and what the test tests."""


def reason(rule, process):
    """Why an alert is suppressed; an empty text keeps it."""
    if rule == "File in memory" and process == "node":
        return "Node.js compiles while it runs, in memory"
    return ""
