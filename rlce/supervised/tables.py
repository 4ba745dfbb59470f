"""Tables: read CSV files, split their rows, turn their columns into rows of floats.

Only names: `csv_files` reads files, `splits` takes the target out and holds rows out, `columns` turns typed columns
into floats, and `frames` is the same for scikit-learn.
"""

from rlce.supervised.columns import Columns, Date, Number, Text
from rlce.supervised.csv_files import Reading, header, read_chunks, read_csv
from rlce.supervised.fields import Notes
from rlce.supervised.frames import TableEncoder
from rlce.supervised.splits import Task, hold_out, last_rows, repeats, target

__all__ = [
    "Columns",
    "Date",
    "Notes",
    "Number",
    "Reading",
    "TableEncoder",
    "Task",
    "Text",
    "header",
    "hold_out",
    "last_rows",
    "read_chunks",
    "read_csv",
    "repeats",
    "target",
]
