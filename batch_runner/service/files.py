"""The one folder that tasks may read (`--files`), and nothing outside it."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath

from batch_runner.service.endings import TaskFailed


def file_within(folder: Path, name: str) -> Path:
    """The file that a cell names, as a real path inside `folder`; sub-folders are fine.

    Raises TaskFailed for an absolute path (of any system), a `..` anywhere, a link that leads out of the folder, a
    file that isn't there, and for what is no regular file (opening a named pipe would wait for ever).
    """
    _refuse_paths_out(folder, name)
    try:
        root, path = folder.resolve(), (folder / name).resolve()
        is_inside, is_file, exists = path.is_relative_to(root), path.is_file(), path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise TaskFailed(f"The file {name!r} can't be looked up in {folder}: {error}") from error
    if not is_inside:
        raise TaskFailed(f"The file {name!r} leads out of the folder {folder}; only files within it are read.")
    if not exists:
        raise TaskFailed(f"There is no file {name!r} in the folder {folder}.")
    if not is_file:
        raise TaskFailed(f"{name!r} in the folder {folder} is no file.")
    return path


def _refuse_paths_out(folder: Path, name: str) -> None:
    """Judge the name alone. Windows rules know both slashes and drives, so they cover the other systems' too."""
    path = PureWindowsPath(name)
    if not name.strip():
        raise TaskFailed("The file's name is empty.")
    if "\0" in name:
        raise TaskFailed(f"The file's name {name!r} holds a NUL character.")
    if path.drive or path.root:
        raise TaskFailed(f"The file {name!r} is an absolute path; name it as it stands within the folder {folder}.")
    if ".." in path.parts:
        raise TaskFailed(f"The file {name!r} leads out of the folder {folder} by '..'; only files within it are read.")
