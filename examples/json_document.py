"""json_document.py: a service that reads a large JSON document for a few of its fields.

The document is a catalogue. It is parsed whole and searched for some tags, an index of names and prices of
what is on offer (one item in thirty) is kept, and the rest is dropped. The names that are kept are the very
strings that the parser made, between all the others. From then on the index answers questions.

Expect: the text, one large piece, goes back to the kernel; the parsed document does not. Nearly all that it
took stays resident, most of it as free pools, and the index is a few percent of it.
"""

import argparse
import json
import os
import random
import tempfile

TAGS = 12
QUESTIONS = 3000000


def write_catalogue(file, count, draw):
    for number in range(count):
        item = {
            "id": "%08x-%04x" % (draw.getrandbits(32), number & 0xFFFF),
            "name": "article %d in colour %d" % (number, draw.randrange(500)),
            "price": draw.randrange(100, 10 ** 6) / 100,
            "offer": draw.randrange(30) == 0,
            "text": "word " * draw.randrange(4, 60),
            "tags": ["tag-%d" % draw.randrange(10 ** 5) for _ in range(6)],
            "size": {"width": draw.random(), "height": draw.random(), "depth": draw.random()},
        }
        file.write("," if number else "[")
        file.write(json.dumps(item))
    file.write("]")


def tagged(document, tag):
    return sum(tag in item["tags"] for item in document)


def index(document):
    return {item["name"]: item["price"] for item in document if item["offer"]}


def answer(offers, questions, draw):
    names = list(offers)
    return sum(offers[draw.choice(names)] for _ in range(questions))


def hold():
    while os.read(0, 4096):
        pass


def main():
    summary, _, expectation = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(description=summary, epilog=expectation)
    parser.add_argument("--size", type=int, default=85000, help="how many items (85000)")
    parser.add_argument("--seed", type=int, default=1, help="of all random choices (1)")
    parser.add_argument("--peak", action="store_true", help="stop at the peak: drop nothing")
    parser.add_argument("--hold", action="store_true", help="stay until stdin ends")
    options = parser.parse_args()

    draw = random.Random(options.seed)
    with tempfile.TemporaryFile("w+") as file:
        write_catalogue(file, options.size, draw)
        file.seek(0)
        document = json.load(file)
    for number in range(TAGS):
        tagged(document, "tag-%d" % number)
    offers = index(document)
    if not options.peak:
        document = None
        answer(offers, QUESTIONS, draw)

    print("READY", os.getpid(), flush=True)
    if options.hold:
        hold()
    return offers, document


if __name__ == "__main__":
    STATE = main()
