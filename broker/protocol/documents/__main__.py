"""Writes the documents to a directory: `python -m broker.protocol.documents docs`."""

import sys
from pathlib import Path

from broker.protocol.documents.files import write_files

write_files(Path(sys.argv[1]))
