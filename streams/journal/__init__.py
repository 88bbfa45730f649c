"""The journal of a run: an append-only log of everything it consumed and wrote, on local disk.

encoding   entries as bytes; groups of records, encoded once
names      the journal's own numbering of instruments and sources
segment    files of a journal
logfile    the row log that is being written
rowlog     the scan of one
locking    one writer at a time
writer     JournalWriter
sealing    finished row logs become Arrow files
sealed     reads those
parts      one face for both
entry      one entry, decoded on demand
batches    market events recut into batches
reader     JournalReader
hashing    OutputHasher: the hash of what a run wrote
compare    two journals, record by record
published  a journal as the records that its run published
"""

from streams.journal.compare import Comparison, Difference, compare
from streams.journal.encoding import EPOCH_MARK, EncodedGroup, Kind, encode_group
from streams.journal.entry import Entry
from streams.journal.hashing import OutputHasher
from streams.journal.published import events_of, published
from streams.journal.reader import JournalReader
from streams.journal.rowlog import TornTail
from streams.journal.sealing import seal_folder
from streams.journal.writer import JournalWriter

__all__ = [
    "EPOCH_MARK",
    "Comparison",
    "Difference",
    "EncodedGroup",
    "Entry",
    "JournalReader",
    "JournalWriter",
    "Kind",
    "OutputHasher",
    "TornTail",
    "compare",
    "encode_group",
    "events_of",
    "published",
    "seal_folder",
]
