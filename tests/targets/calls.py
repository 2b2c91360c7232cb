"""Work that is mostly calls: calls.py calls N | deep N DEPTH. For measurements of what recording costs."""
import sys


class Vector:
    def __init__(self, x, y):
        self.x = x
        self.y = y

    def plus(self, other):
        return Vector(self.x + other.x, self.y + other.y)

    def scaled(self, by):
        return Vector(self.x * by, self.y * by)

    def length(self):
        return square(self.x) + square(self.y)


def square(x):
    return x * x


def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


def calls(n):
    at, step, far = Vector(0.0, 0.0), Vector(0.5, 0.25), 0.0
    for i in range(n):
        at = at.plus(step.scaled(0.5))
        far = max(far, at.length())
        if i % 100 == 0:
            fibonacci(8)
    return far


def parse(i):
    return {"id": i, "name": f"user-{i:09d}", "tags": (i * 3 + 1000, float(i)), "s": f"{i:x}" * (1 + i % 9)}


def records(n):
    kept = []
    for i in range(n):
        kept.append(parse(i))
        if len(kept) > 1000:
            del kept[:500]
    return len(kept)


def deep(n, depth):
    return records(n) if depth == 0 else deep(n, depth - 1)


sys.setrecursionlimit(10_000)
print(calls(int(sys.argv[2])) if sys.argv[1] == "calls" else deep(int(sys.argv[2]), int(sys.argv[3])))
