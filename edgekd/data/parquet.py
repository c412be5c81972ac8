"""Rows of parquet files, bounded in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgekd.errors import InputError

IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp")
BATCH_ROWS = 16
BATCH_BYTES = 16 * 1024 * 1024


def columns_of(path: Path) -> list[str]:
    """Column names; none where the file is no parquet file."""
    return _footer(path)[0]


def row_count(path: Path) -> int | None:
    """Number of rows; None where the file is no parquet file."""
    return _footer(path)[1]


def _footer(path: Path) -> tuple[list[str], int | None]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        footer = pq.read_metadata(path)
        return list(footer.schema.to_arrow_schema().names), footer.num_rows
    except (pa.ArrowException, OSError, ValueError):
        return [], None


def image_column(columns: list[str], image_key: str | None = None) -> str | None:
    """The column that holds the images: `image_key`, or the first of the usual names."""
    wanted = IMAGE_COLUMNS if image_key is None else (image_key,)
    return next((name for name in wanted if name in columns), None)


def iter_rows(
    path: Path, max_bytes: int, image: str | None = None
) -> Iterator[dict[str, Any] | None]:
    """Rows in the file's order; None for one that is larger than `max_bytes`.

    Read are the image column, and those of texts, numbers and lists of them. Row groups whose
    rows are too large on average are not read at all. Within others pyarrow decodes a page
    whole, and Python gets rows of at most `max_bytes`.

    Raises:
        InputError: the file is damaged or not readable.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, buffer_size=1 << 20) as table:
            schema = table.schema_arrow
            columns = [f.name for f in schema if f.name == image or _is_plain(f.type)]
            for number in range(table.num_row_groups):
                group = table.metadata.row_group(number)
                # A column's own size is not asked for: of a damaged one pyarrow aborts the process.
                average = group.total_byte_size // max(1, group.num_rows)
                if average > max_bytes:
                    yield from [None] * group.num_rows
                    continue
                size = max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, average)))
                batches = table.iter_batches(size, row_groups=[number], columns=columns)
                for batch in batches:
                    yield from _bounded(batch, max_bytes)
    # pyarrow reports damage also by an OSError without a number, and text that is none by Python's
    # own error.
    except (pa.ArrowException, ValueError, OverflowError, OSError) as error:
        closed = isinstance(error, OSError) and error.errno is not None
        raise InputError(
            f"`{path}` must be {'readable' if closed else 'a parquet file'}",
            " ".join(str(error).split()),
        ) from None


def _is_plain(kind: Any) -> bool:
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind) or types.is_dictionary(kind):
        kind = kind.value_type
    numeric = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    return bool(numeric or types.is_string(kind) or types.is_large_string(kind))


def _bounded(batch: Any, max_bytes: int) -> Iterator[dict[str, Any] | None]:
    if batch.nbytes <= max_bytes:
        yield from batch.to_pylist()
        return
    for index in range(batch.num_rows):
        row = batch.slice(index, 1)
        yield row.to_pylist()[0] if row.nbytes <= max_bytes else None
