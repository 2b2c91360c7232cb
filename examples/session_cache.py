"""session_cache.py: a web application's session cache after a busy hour.

Every visitor gets a session: a small object, its strings, a dict of a few settings. Nearly all sessions
expire; the few whose visitors ticked "remember me" stay. They were made at any time within the hour, so
they lie scattered over all the memory that the hour needed. In the evening they are served as before.

Expect: RSS stays at its peak, all evening. A few percent of pymalloc's memory are live, the rest is free
and resident: free pools in arenas that a survivor keeps, holes and pinned free space in pools that one keeps.
"""

import argparse
import os
import random

EVENING = 1600000  # requests


class Session:
    __slots__ = ("key", "user", "address", "settings", "pages")

    def __init__(self, number, draw):
        self.key = "%032x" % draw.getrandbits(128)
        self.user = "user-%07d@shop.invalid" % number
        self.address = (10, number >> 16 & 255, number >> 8 & 255, number & 255)
        self.settings = {"language": "en", "theme": "dark", "cart": number * 1000 + 7}
        self.pages = ["/item/%d" % draw.randrange(10 ** 6) for _ in range(5)]


def busy_hour(count, draw):
    return {number: Session(number, draw) for number in range(count)}


def expire(sessions, remembered, draw):
    for number in list(sessions):
        if draw.random() >= remembered:
            del sessions[number]


def serve(sessions, requests, draw):
    users = list(sessions)
    for _ in range(requests):
        session = sessions[draw.choice(users)]
        answer = "%s, welcome back: %s" % (session.user, session.pages[-1])
        session.settings["cart"] = len(answer)


def hold():
    while os.read(0, 4096):
        pass


def main():
    summary, _, expectation = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(description=summary, epilog=expectation)
    parser.add_argument("--size", type=int, default=150000, help="how many sessions (150000)")
    parser.add_argument("--seed", type=int, default=1, help="of all random choices (1)")
    parser.add_argument("--remembered", type=float, default=0.02, help="share that stays (0.02)")
    parser.add_argument("--peak", action="store_true", help="stop at the peak: let nothing expire")
    parser.add_argument("--hold", action="store_true", help="stay until stdin ends")
    options = parser.parse_args()

    draw = random.Random(options.seed)
    sessions = busy_hour(options.size, draw)
    if not options.peak:
        expire(sessions, options.remembered, draw)
        serve(sessions, EVENING, draw)

    print("READY", os.getpid(), flush=True)
    if options.hold:
        hold()
    return sessions


if __name__ == "__main__":
    STATE = main()
