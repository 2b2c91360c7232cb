"""PyYAML's C loader and dumper: documents dumped, loaded and dumped again, always to the same text."""

import random

import yaml
from churn import repeat

Loader, Dumper = yaml.CSafeLoader, yaml.CSafeDumper


def document(n):
    chance = random.Random(n)
    words = [chance.randbytes(chance.randrange(2, 24)).hex() for _ in range(60)]
    return {
        "name": words[0],
        "list": [chance.random() for _ in range(20)],
        "map": {word: {"n": i, "none": None, "text": word * 3} for i, word in enumerate(words)},
        "text": "\n".join(words),
    }


def make(n):
    written = yaml.dump(document(n), Dumper=Dumper)
    loaded = yaml.load(written, Loader=Loader)
    assert loaded == document(n)
    return loaded


repeat(make, lambda loaded: yaml.dump(loaded, Dumper=Dumper).encode())
