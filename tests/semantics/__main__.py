"""`python -m tests.semantics`: write the rows into docs/SEMANTICS.md."""

from tests.semantics.table import BEGIN, PAGE, rows

head, _, _ = PAGE.read_text().partition(BEGIN)
PAGE.write_text(f"{head}{BEGIN}\n\n{rows()}")
