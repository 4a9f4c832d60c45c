"""When two runs gave the same."""

from ttt_bench.api.records import Records


def same(one: Records, other: Records) -> bool:
    """Bit for bit, the time aside."""
    mine, theirs = one.to_table(), other.to_table()
    return mine.replace_schema_metadata().equals(theirs.replace_schema_metadata())
