"""Data sets: history from files, folders and runs, played in one order.

base          DataSet, the protocol that everything else knows
open          open_data: by name or path
bundled       the sets that come with Millrace
stored        the data set over a folder of parts
merging       series of rows into one stream of events
store         parts and index on disk
hashing       content hashes of columns
ingest        parsed rows into parts: numbering, rejects, partitions
checks        what is wrong or noteworthy about rows
quality       the report of it, and the reject file
known         instruments that files name by symbol alone
tabular       columns of CSV and Parquet files and their other names
parsing       columns as blocks of parsed rows
table_rows    their rows, completed
spacing       steps between bars: their order, their interval, what is odd
session_ends  where bars end that are stamped by their start
csv_text      CSV as columns of text
csv_files, parquet_files, lean, factor_files  the formats
recorded, topics_folder, partitions  what a run, or Kafka, has recorded
"""

from streams.datasets.base import DataSet
from streams.datasets.bundled import BUNDLED
from streams.datasets.open import open_data
from streams.datasets.quality import QualityReport

__all__ = ["BUNDLED", "DataSet", "QualityReport", "open_data"]
