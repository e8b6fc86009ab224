"""No body that a service or a gateway may send makes the reading of it fail."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_runner.service.http.response import message_in, run_in

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["run_id", "status", "result", "error", "session_id", "message", "other"]
BODIES = st.dictionaries(st.sampled_from(FIELDS), JSON).map(lambda told: json.dumps(told).encode())


@given(BODIES, st.integers(0, 200), st.binary(max_size=4))
def test_never_an_error(body: bytes, at: int, damage: bytes) -> None:
    """Bodies with any values in their fields, whole and damaged; what is found is text."""
    for told in (body, body[:at], body[:at] + damage + body[at:], damage):
        run = run_in(told)
        if run is not None:
            assert run.run_id.strip()
            bytes(run.result).decode()
            assert run.error is None or run.error
        assert "\n" not in message_in(told)


@given(st.text(min_size=1).filter(str.strip), st.text(min_size=1), JSON)
def test_a_run_is_read_as_it_was_told(run_id: str, status: str, result: object) -> None:
    """Id and status of whatever characters come through, and the result is the JSON that was sent."""
    text = json.dumps(result, allow_nan=True)
    if "NaN" in text or "Infinity" in text:
        text = "1.10"
    body = f'{{"run_id": {json.dumps(run_id)}, "status": {json.dumps(status)}, "result": {text}}}'
    run = run_in(body.encode())
    assert run is not None
    assert (run.run_id, run.status) == (run_id, status)
    assert bytes(run.result).decode() == ("" if text == "null" else text)


@pytest.mark.parametrize("size", [10, 1 << 20, 3 << 20])
@pytest.mark.parametrize(("bad", "told"), [(b"\xff", "\ufffd"), (b"\xc3", "\ufffd"), ("é".encode(), "é")])
def test_a_result_is_whole_text_however_long(size: int, bad: bytes, told: str) -> None:
    """A byte that is none of UTF-8 becomes U+FFFD, in a long result too, which is else left where it stands."""
    body = b'{"run_id": "run-1", "status": "success", "result": "' + b"x" * size + bad + b'"}'
    run = run_in(body)
    assert run is not None
    assert bytes(run.result).decode() == f'"{"x" * size}{told}"'


@pytest.mark.parametrize("depth", [500, 1_100, 100_000])
@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a": [', "]}")])
def test_a_run_is_read_whatever_its_result_is_nested_in(depth: int, opened: str, closed: str) -> None:
    """A result that no parser takes apart is kept as it came; id, status and session beside it count, in any order."""
    result = opened * depth + '"]} \\" \\\\"' + closed * depth
    body = f' {{"session_id": "s", "result" : {result} ,"status":"success","error":null, "run_id":"r, \\"1\\"" }} '
    run = run_in(body.encode())
    assert run is not None
    assert (run.run_id, run.status, run.session_id, run.error) == ('r, "1"', "success", "s", None)
    assert bytes(run.result) == result.encode()


@pytest.mark.parametrize("depth", [600, 1_100, 100_000])
def test_an_error_is_text_whatever_it_is_nested_in(depth: int) -> None:
    """A failure is one, though nobody can say what its error means."""
    error = '{"error":' * depth + '"no"' + "}" * depth
    run = run_in(f'{{"run_id": "r", "status": "failure", "error": {error}}}'.encode())
    assert run is not None
    assert run.status == "failure"
    assert run.error in {"no", error}


@pytest.mark.parametrize("body", ["[" * 5_000, '{"run_id": "r", "result": ' + "[" * 5_000, "{" * 3_000 + "}" * 3_000])
def test_what_has_no_end_is_no_run(body: str) -> None:
    """Brackets without end, or with nothing in them, are not understood, as anything else that is no JSON."""
    assert run_in(body.encode()) is None
