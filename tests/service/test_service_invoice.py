"""The built-in task `invoice`: every sample, and what can be wrong with a file or with the params."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pypdf import PdfWriter
from reportlab.pdfgen.canvas import Canvas

from batch_runner.service.local.context import Context
from batch_runner.service.local.result import TaskFailed
from batch_runner.service.local.tasks import Call, TaskSource

if TYPE_CHECKING:
    from collections.abc import Callable

SUPPORT = Path(__file__).parents[1] / "support"
SAMPLES = SUPPORT.parents[1] / "samples"

FIELDS, *EXPECTED = [line.split("|") for line in (SUPPORT / "invoice_fields.psv").read_text("utf-8").splitlines()]


def read(folder: Path, name: str, operation: str | None = None, **others: str) -> dict[str, Any]:
    params = {"File Name": name, **({"Operation": operation} if operation else {}), **others}
    return run(params, folder)


def run(params: dict[str, str], folder: Path) -> dict[str, Any]:
    """As a worker process does."""
    call = Call(TaskSource("invoice"), params, Context("run_1", "session_1", str(folder)), 60.0)
    result: dict[str, Any] = call.bind(call.source.load())()
    return result


def refusal(folder: Path, name: str, operation: str | None = None) -> str:
    with pytest.raises(TaskFailed) as caught:
        read(folder, name, operation)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_sample_is_expected() -> None:
    """The table of expected fields has a line for every PDF among the samples."""
    assert {f"{file}.pdf" for file, *_ in EXPECTED} == {p.name for p in (SAMPLES / "invoices").glob("*.pdf")}


@pytest.mark.parametrize("expected", EXPECTED, ids=[file for file, *_ in EXPECTED])
def test_the_fields_of_every_sample_are_found(expected: list[str]) -> None:
    """Eight languages, eight currencies, four layouts, both decimal conventions."""
    found = read(SAMPLES, f"invoices/{expected[0]}.pdf", "extract_fields")
    assert {field: found[field] for field in FIELDS[1:]} == dict(zip(FIELDS[1:], expected[1:], strict=True))


@pytest.mark.parametrize("expected", EXPECTED, ids=[file for file, *_ in EXPECTED])
def test_the_text_of_every_sample_is_read(expected: list[str]) -> None:
    """Without an Operation too; accents and other scripts are whole."""
    file, number, _, _, seller, *_ = expected
    found = read(SAMPLES, f"invoices/{file}.pdf", "extract_text")
    assert found == read(SAMPLES, f"invoices/{file}.pdf", Supplier="ignored")
    assert number in found["text"]
    assert seller in found["text"]
    assert found["pages"] == (2 if "stadtwerke" in file else 1)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("encrypted.pdf", "The PDF is encrypted and needs a password; save it without one."),
        ("broken.pdf", "The PDF is damaged and can't be read; ask for it again."),
        ("empty.pdf", "The file is empty: 0 bytes."),
        ("letter.pdf", "The file is neither a PDF nor XML: it does not begin like one."),
        (
            "scan.pdf",
            "The PDF is a scan: its pages are images, with no text or little more than a stamp. "
            "Send it through an OCR program first.",
        ),
        ("none.pdf", f"There is no file 'problems/none.pdf' in the folder {SAMPLES / 'invoices'}."),
    ],
)
@pytest.mark.parametrize("operation", ["extract_text", "extract_fields"])
def test_what_is_wrong_with_a_file_is_said(name: str, said: str, operation: str) -> None:
    """Whatever the operation, a broken, empty, encrypted, scanned or missing PDF is told in one sentence.

    The file's name isn't in it, so that one cause in many rows is one line of the summary.
    """
    assert refusal(SAMPLES / "invoices", f"problems/{name}", operation) == said


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"File Name": "a.pdf", "Operation": "extract_txt"}, "did you mean 'extract_text'?"),
        (
            {"File Name": "a.pdf", "Operation": "pay"},
            "'Operation' has to be extract_text, extract_fields or extract_lines, not 'pay'",
        ),
        ({"Filename": "a.pdf"}, "the param 'File Name' is missing; did you mean 'Filename'?"),
        ({"file name": "a.pdf"}, "did you mean 'file name'?"),
        ({"Supplier": "x"}, "the param 'File Name' is missing; the task needs it"),
        ({"File Name": "../a.pdf"}, "leads out of the folder"),
    ],
)
def test_what_is_wrong_with_the_params_is_said(params: dict[str, str], said: str) -> None:
    """A wrong operation and a missing, misspelt or outward file name end the run with the next step."""
    with pytest.raises(TaskFailed, match=said.replace("?", "[?]")):
        run(params, SAMPLES)


def test_ten_thousand_pages_are_too_many(tmp_path: Path) -> None:
    """So many pages are refused, also where the file only claims to have them, and never visited."""
    writer = PdfWriter()
    for _ in range(1_001):
        writer.add_blank_page(10, 10)
    writer.write(tmp_path / "1001.pdf")
    assert refusal(tmp_path, "1001.pdf") == "The PDF has more than 1000 pages; no invoice is so long."
    honest = (tmp_path / "1001.pdf").read_bytes()
    (tmp_path / "10000.pdf").write_bytes(honest.replace(b"/Count 1001", b"/Count 10000"))
    assert refusal(tmp_path, "10000.pdf") == refusal(tmp_path, "1001.pdf")


def test_no_pages_are_too_few(tmp_path: Path) -> None:
    """A PDF without pages is refused rather than read as empty."""
    PdfWriter().write(tmp_path / "none.pdf")
    assert refusal(tmp_path, "none.pdf") == "The PDF is damaged and can't be read; ask for it again."


def test_a_pdf_that_anyone_can_open_is_read(tmp_path: Path) -> None:
    """Encrypted with the empty password, as protection against printing is."""
    writer = PdfWriter(clone_from=SAMPLES / "invoices" / "harbour-paper-2026-0117.pdf")
    writer.encrypt("", "owner", algorithm="AES-256")
    writer.write(tmp_path / "protected.pdf")
    assert read(tmp_path, "protected.pdf", "extract_fields")["total"] == "337.20"


@pytest.mark.long
def test_a_bomb_is_a_failure(tmp_path: Path) -> None:
    """A page of 200 kB whose content would unpack to 200 MB."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(b" " * 2**20) for _ in range(200)) + packer.flush()
    (tmp_path / "bomb.pdf").write_bytes(_pdf_with_content(packed))
    assert refusal(tmp_path, "bomb.pdf").startswith("The PDF's pages hold no text")


_FONT = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"


def _pdf_with_content(packed: bytes) -> bytes:
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R/Resources<</Font<</F %s>>>>>>" % _FONT,
        b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(packed), packed),
    ]
    body, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return body + b"xref\n0 5\n0000000000 65535 f \n%strailer<</Size 5/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (
        table,
        len(body),
    )


@pytest.mark.long
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_of_any_kind_is_a_sentence_or_still_readable(tmp_path: Path, data: st.DataObject) -> None:
    """Bytes of a good invoice are changed, cut or doubled anywhere: never another exception than TaskFailed."""
    good = (SAMPLES / "invoices" / "sakura-shoji-INV-000318.pdf").read_bytes()
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 300)))
    (tmp_path / "a.pdf").write_bytes(good[:start] + data.draw(st.binary(max_size=40)) + good[end:])
    for operation in ("extract_text", "extract_fields"):
        try:
            found = read(tmp_path, "a.pdf", operation)
        except TaskFailed:
            continue
        assert found


def test_damage_among_what_is_drawn_is_no_scan(tmp_path: Path) -> None:
    """Pages without text and images are said to be empty or damaged; a stream that can't be unpacked is no scan."""
    (tmp_path / "a.pdf").write_bytes(_pdf_with_content(b"these bytes are no deflate stream"))
    assert "empty or damaged" in refusal(tmp_path, "a.pdf")


@pytest.fixture
def draw(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Draws lines of text at places on a page, and gives the fields that are found there."""

    def fields(*texts: tuple[int, int, str]) -> dict[str, Any]:
        buffer = io.BytesIO()
        canvas = Canvas(buffer)
        for x, y, text in texts:
            canvas.drawString(x, y, text)
        canvas.save()
        (tmp_path / "drawn.pdf").write_bytes(buffer.getvalue())
        return read(tmp_path, "drawn.pdf", "extract_fields")

    return fields


def test_what_is_not_on_the_page_is_null(draw: Callable[..., dict[str, Any]]) -> None:
    """A field that doesn't stand there is null, never guessed."""
    found = draw((50, 700, "Invoice No. 7"))
    assert {field: found[field] for field in FIELDS[1:]} == dict.fromkeys(FIELDS[1:]) | {"number": "7"}
    assert found["confidence"] == {"number": "label", "kind": "label"}


def test_a_success_with_nothing_in_it_is_a_failure(draw: Callable[..., dict[str, Any]]) -> None:
    """A page on which no field was found fails, and says so."""
    with pytest.raises(TaskFailed, match="No field of an invoice was found"):
        draw((50, 700, "Invoice"), (50, 650, "Dear Sir or Madam, please find nothing here."))


def test_the_order_of_drawing_does_not_matter(draw: Callable[..., dict[str, Any]]) -> None:
    """All labels first and then all values, as some programs write: the place on the page decides."""
    found = draw(
        (50, 500, "Subtotal"),
        (50, 480, "VAT 20%"),
        (50, 460, "Total"),
        (400, 460, "£1,200.00"),
        (400, 500, "£1,000.00"),
        (400, 480, "£200.00"),
    )
    assert (found["net"], found["tax"], found["total"]) == ("1000.00", "200.00", "1200.00")


def test_several_rates_of_tax_are_added_up(draw: Callable[..., dict[str, Any]]) -> None:
    """The tax is the sum over all rates."""
    found = draw(
        (50, 700, "Zwischensumme  200,00 EUR"),
        (50, 680, "MwSt. 7 %  7,00 EUR"),
        (50, 660, "MwSt. 19 %  19,00 EUR"),
        (50, 640, "Gesamtbetrag  226,00 EUR"),
    )
    assert (found["net"], found["tax"], found["total"]) == ("200.00", "26.00", "226.00")


def test_what_was_paid_already_does_not_lower_the_total(draw: Callable[..., dict[str, Any]]) -> None:
    """The total is that of the invoice, not the balance that is left."""
    found = draw(
        (50, 700, "Subtotal  $1,500.00"),
        (50, 680, "Sales tax 8%  $120.00"),
        (50, 660, "Total  $1,620.00"),
        (50, 640, "Balance due  $620.00"),
    )
    assert (found["net"], found["tax"], found["total"]) == ("1500.00", "120.00", "1620.00")


def test_number_and_date_may_stand_in_one_sentence(draw: Callable[..., dict[str, Any]]) -> None:
    """Number and date are found in running text, too."""
    found = draw((50, 700, "Muster AG"), (50, 680, "Rechnung FT 2026/15 vom 12. März 2026"))
    assert (found["seller"], found["number"], found["invoice_date"]) == ("Muster AG", "FT 2026/15", "2026-03-12")
