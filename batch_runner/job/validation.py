"""What is wrong with a job by itself, and what of it may hold a secret.

Such a secret comes from the environment only: `${NAME}` in a URL stands for a variable, and the whole URL may stand in
`BATCH_RUNNER_HEARTBEAT` or `BATCH_RUNNER_NOTIFY`. Neither is shown anywhere.
"""

from __future__ import annotations

import csv
import re
from datetime import date, time
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec

from batch_runner.errors import reason_of
from batch_runner.outcomes import RETRY_WORDS
from batch_runner.units import real_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


SECRETIVE = ("heartbeat", "notify")
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_PASSWORD = re.compile(r"://[^/?#]*:(?!\$\{)[^/?#]+@")


def shown(name: str, value: object) -> object:
    """An option's value as it may be shown."""
    if name not in SECRETIVE or not value:
        return value
    return mask(value) if isinstance(value, str) else [mask(str(url)) for url in _as_tuple(value)]


def mask(url: str) -> str:
    """`https://hc-ping.com/…`, `slack://…`: only of a web address the host is certainly no secret."""
    scheme, colon, _ = url.partition("://")
    if not colon or not scheme.isalnum():
        return "…"
    host = _host(url) if scheme.lower() in ("http", "https") else ""
    return f"{scheme}://{host}/…" if host else f"{scheme}://…"


def fill_variables(url: str, environ: Mapping[str, str]) -> str:
    """The URL with each `${NAME}` replaced as it stands in the environment. Raises `ValueError` with a sentence."""
    values = {name: read_secret(name, environ) for name in _VARIABLE.findall(url)}
    for name, value in values.items():
        if not value:
            raise ValueError(f"the variable {name} is not in the environment; set it to what ${{{name}}} stands for")
    return _VARIABLE.sub(lambda found: values[found[1]] or "", url)


LONGEST_SECRET = 1 << 16
"""Characters. A file that doesn't end (a device) holds none."""


def read_secret(name: str, environ: Mapping[str, str]) -> str | None:
    """The variable of this name; else what the file holds that `NAME_FILE` names, or systemd's folder of credentials.

    The latter is `$CREDENTIALS_DIRECTORY`, with a file of that name, in capitals or not. Raises `ValueError` with a
    sentence, in which nothing of the file stands.
    """
    if value := environ.get(name, "").strip():
        return value
    label, path = f"{name}_FILE", Path(environ.get(f"{name}_FILE", ""))
    if not path.name:
        label, folder = "CREDENTIALS_DIRECTORY", environ.get("CREDENTIALS_DIRECTORY")
        found = [Path(folder) / word for word in (name, name.lower())] if folder else []
        path = next((candidate for candidate in found if candidate.is_file()), Path())
    if not path.name:
        return None
    try:
        with path.open(encoding="utf-8-sig") as file:
            value = file.read(LONGEST_SECRET).strip()
        is_text = "\0" not in value
    except UnicodeDecodeError:
        is_text = False
    except OSError as error:
        raise ValueError(f"{label}: {path} can't be read ({reason_of(error)}); name a file with the secret") from None
    if not is_text:
        raise ValueError(f"{label}: {path} holds no text; write the secret into it as one line of UTF-8")
    if not value or len(value.splitlines()) != 1:
        raise ValueError(f"{label}: {path} has {'nothing' if not value else 'several lines'} in it; one line is wanted")
    return value


def is_filled(url: str) -> bool:
    """Whether a part of it comes from the environment."""
    return _VARIABLE.search(url) is not None


def find_exposure(url: str) -> str | None:
    """A problem where a URL that was said on the command line, or stands in a job file, has a password in it."""
    if not _PASSWORD.search(url):
        return None
    return "a password doesn't belong here, where others can read it; put it into the environment and write ${NAME}"


def heartbeat_problem(url: str | None) -> str | None:
    """A problem of one that can't be pinged, as far as that is known without the environment."""
    if not url or is_filled(url.partition("/")[0]):
        return None
    if url.lower().startswith(("http://", "https://")) and (_host(url) or is_filled(url)):
        return None
    return "heartbeat: not a web address; write for example https://hc-ping.com/${PING_ID}"


def _host(url: str) -> str:
    """Host and port, without user and password; empty where there is none, or where it may be part of a password."""
    try:
        place = urlsplit(url).netloc
    except ValueError:
        return ""
    return "" if "@" in url and "@" not in place else place.rpartition("@")[2]


def _as_tuple(value: object) -> tuple[object, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


OUTPUT_ENDINGS = (".csv", ".tsv", ".xlsx", ".xlsm", ".jsonl", ".parquet")
_DASK_ADDRESS = re.compile(r"(tcp|tls)://\S+:[0-9]{1,5}")


def nameless(paths: Mapping[str, str | None]) -> list[str]:
    """Paths, by the names of their options, without a file name, such as "" and "/"."""
    return [
        f"{field}: {path!r}: not a file; name {'a spreadsheet' if field == 'input' else 'a file to write'}"
        for field, path in paths.items()
        if path is not None and not Path(path).name
    ]


def parse_problem(field: str, read: Callable[[], object]) -> str | None:
    """What is wrong with a value that `read` reads."""
    try:
        read()
    except ValueError as error:
        return f"{field}: {error}"
    return None


def bytes_problem(field: str, value: object) -> str | None:
    """What a command line held that is no text in its encoding comes as lone surrogates (PEP 383)."""
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        return f"{field}: it holds bytes that are no text, which can't be sent; write it in UTF-8"
    return None


def low(field: str, value: int | None) -> str | None:
    """What is wrong with a number that counts something."""
    return None if value is None or value >= 1 else f"{field}: {value} is too low; it is 1 or more"


def retry_problems(retry: Iterable[str]) -> list[str]:
    """Words that are no statuses which can be run again."""
    return [
        f"retry: {word!r} is not a status that can be run again; use {', '.join(RETRY_WORDS)}"
        for word in retry
        if word not in RETRY_WORDS
    ]


def service_problem(service: str) -> str | None:
    """What is wrong with the name of a service."""
    if service in ("local", "anchor"):
        return None
    parts = urlsplit(service)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return f"service: {service!r} is neither local nor anchor nor a URL such as https://example.com"
    if parts.username or parts.password:
        return "service: a URL with a password in it would end up in logs; the key goes into ANCHORBROWSER_API_KEY"
    return None


def dask_problem(dask: str | None, service: str) -> str | None:
    """Only the embedded service has its tasks run on Dask."""
    if dask is None or service == "local":
        return None
    return f"dask, service: {service} runs its tasks itself; only the local service can run them on Dask"


def cluster_problem(dask: str | None, workers: int | None, *, send_files: bool) -> str | None:
    """What is wrong with the address of a Dask cluster, or with what is said about one."""
    if dask is None and send_files:
        return "send_files: it sends files to a Dask cluster; say which by --dask tcp://HOST:8786"
    if dask is None:
        return None
    if dask != "local" and not _DASK_ADDRESS.fullmatch(dask):
        return f"dask: {dask!r} is no address of a scheduler; write it as tcp://HOST:8786, or local"
    if workers is not None and dask != "local":
        return "workers, dask: that cluster has its own workers; leave --workers out"
    return None


def output_problem(output: str | None, source: Path) -> str | None:
    """What is wrong with an output's ending, for a sheet read from `source`."""
    if output is None:
        return None
    ending = Path(output).suffix.lower()
    if ending not in OUTPUT_ENDINGS:
        return f"output: {output!r}: unknown ending; use one of {', '.join(OUTPUT_ENDINGS)}"
    if ending == ".xlsm" and source.suffix.lower() != ".xlsm":
        return f"output: {output!r}: only a .xlsm can become a .xlsm; use .xlsx"
    if ending == ".xlsx" and source.suffix.lower() == ".xlsm":
        right = Path(output).with_suffix(".xlsm")
        return f"output: {output!r}: the macros, formulas and other sheets would be lost; use {right}"
    return None


def report_problem(report: Path | None) -> str | None:
    """A report is one page."""
    if report is None or report.suffix.lower() == ".html":
        return None
    return f"report: {str(report)!r}: a report is one page; name a file that ends in .html"


def clash(field: str, path: Path | None, others: Mapping[str, Path | None], what: str) -> str | None:
    """A file that would be written over one of the others, which are named by their options; `what` it is."""
    if path is None:
        return None
    for name, other in others.items():
        if other is not None and real_place(other) == real_place(path):
            return f"{field}, {name}: {path} can't be both; name another file for the {what}"
    return None


def delimiter_problem(delimiter: str | None) -> str | None:
    """A delimiter is one character, or the word for one."""
    words = ("tab", "comma", "semicolon", "pipe", "space", "colon", "none", "\\t")
    if delimiter is None or len(delimiter) == 1 or delimiter.lower() in words:
        return None
    return f"delimiter: {delimiter!r} is not one character; use for example ';' or tab"


def compare_problems(compare: Mapping[str, str]) -> Iterator[str]:
    """A column can be compared with a part of the result alone."""
    for column, path in compare.items():
        if not path.startswith("result.") or path.endswith("."):
            yield f"compare: {column!r} is compared with {path!r}; name a part of the result, such as result.total"


_LOCALE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*")
"""A language tag, such as `de` or `fr-CH` (BCP 47)."""


def locale_problem(locale: str | None) -> str | None:
    """A locale is called by a language tag."""
    if locale is None or _LOCALE.fullmatch(locale):
        return None
    return f"locale: {locale!r} is no language; write for example de or fr-CH"


class OptionKind(Enum):
    """How a person writes the value of an option."""

    FLAG = "flag"
    """Said or not said."""
    NAMES = "names"
    """`A,B`, quoted as in CSV where a name holds a comma; may be said again."""
    PAIRS = "pairs"
    """`NAME=VALUE`; may be said again."""
    VALUE = "value"


_COMPLAINTS = {
    OptionKind.FLAG: "is neither true nor false",
    OptionKind.NAMES: "is not a list of texts",
    OptionKind.PAIRS: "is not a table of texts",
    OptionKind.VALUE: "is not a text; put it in quotes",
}

_FORMS = {
    OptionKind.NAMES: "write URLs, a comma between two, one with a comma in double quotes",
    OptionKind.VALUE: "write a URL",
}


@cache
def hints_of(job: type) -> dict[str, Any]:
    """The type of each option of a job, with how it is shown to people."""
    hints = get_type_hints(job, include_extras=True)
    return {name: hint for name, hint in hints.items() if hasattr(hint, "__metadata__")}


def kind_of(hint: Any) -> OptionKind:
    """How a person writes a value of this type."""
    kinds = {bool: OptionKind.FLAG, tuple[str, ...]: OptionKind.NAMES, dict[str, str]: OptionKind.PAIRS}
    return kinds.get(get_args(hint)[0], OptionKind.VALUE)


def read_value(name: str, value: object, hint: Any) -> object:
    """The value of an option as a `Job` holds it, from whatever form it was said in. Raises `ValueError`."""
    kind = kind_of(hint)
    try:
        return _read(name, value, hint, kind)
    except ValueError:
        if name not in SECRETIVE:
            raise
        words = f"can't be read, and isn't shown since it may hold a secret; {_FORMS[kind]}"
        raise ValueError(words) from None


def _read(name: str, value: object, hint: Any, kind: OptionKind) -> object:
    if kind is OptionKind.NAMES:
        value = _names(value)
    if kind is OptionKind.PAIRS:
        value = _pairs(value)
    if isinstance(value, time) or (name == "date" and isinstance(value, date)):
        value = value.isoformat()
    try:
        return msgspec.convert(value, type=hint, strict=not isinstance(value, str))
    except msgspec.ValidationError:
        raise ValueError(f"{value!r} {_complaint(kind, hint)}") from None


def _names(value: object) -> object:
    """Texts are split at commas; a list, which only a TOML file can hold, is taken to the letter."""
    if isinstance(value, tuple):
        return [name for text in value for name in _split(str(text))]
    return _split(value) if isinstance(value, str) else value


def _split(text: str) -> list[str]:
    try:
        return next(csv.reader([text], skipinitialspace=True, strict=True), [])
    except csv.Error:
        raise ValueError(
            f"{text!r} is not a list of names; put a name with a comma, a quote or a line break in double quotes"
        ) from None


def _pairs(value: object) -> object:
    if not isinstance(value, list | tuple):
        return value
    pairs: dict[str, str] = {}
    for text in value:
        name, equals, rest = str(text).partition("=")
        if not equals or not name:
            raise ValueError(f"{text!r} is not of the form NAME=VALUE")
        if name in pairs:
            raise ValueError(f"{name!r} is said twice; say it once")
        pairs[name] = rest
    return pairs


def _complaint(kind: OptionKind, hint: Any) -> str:
    parts = _parts(hint)
    choices = [choice for part in parts if get_origin(part) is Literal for choice in get_args(part)]
    if choices:
        return f"is none of {', '.join(choices)}"
    if kind is OptionKind.VALUE and str not in parts:
        return "is not a whole number"
    return _COMPLAINTS[kind]


def _parts(hint: Any) -> tuple[Any, ...]:
    inner = get_args(hint)[0]
    return get_args(inner) if get_origin(inner) is not Literal and get_args(inner) else (inner,)
