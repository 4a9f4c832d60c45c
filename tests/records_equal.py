"""Comparison of the records of two runs."""

from ttt_bench.api.records import Records
from ttt_bench.runs.arrow import to_table


def records_equal(one: Records, other: Records) -> bool:
    """Say whether two runs gave the same, bit for bit, the time aside."""
    tables = [to_table(records).replace_schema_metadata() for records in (one, other)]
    return tables[0].equals(tables[1])
