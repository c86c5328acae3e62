"""Several commands in one process, or in two: starting one takes longer than most of them run.

`chain.py JSON`: a list of commands; a word with a star in it is the one path that it matches.
"""

import glob
import json
import sys

from datablame.base import processes
from datablame.cli import app

if __name__ == "__main__":
    processes.start()
    for line in json.loads(sys.argv[1]):
        words = [glob.glob(word)[0] if "*" in word else word for word in line]
        app.meta(words, exit_on_error=False, print_error=False, result_action="return_value")
    processes.stop()
