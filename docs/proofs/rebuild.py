"""Survivors that are copied land beside themselves; survivors that are rebuilt do not."""

import copy
import pickle

from look import heading, look

heading()
records = [{"number": i, "name": "record %d" % i, "parts": [i, i + 1]} for i in range(300000)]
look("300,000 records")
records = records[::50]
look("1 in 50 kept")
records = copy.deepcopy(records)
look("those copied")
frozen = pickle.dumps(records)
del records
records = pickle.loads(frozen)
look("those pickled, dropped, loaded")
