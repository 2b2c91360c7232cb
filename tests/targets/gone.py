"""Functions that go, and others that are made at their addresses, which allocate: gone.py.

A node that was found for one is given to the next, if it is not forgotten when the first goes.
"""

SOURCE = """
def made_%d():
    return [bytearray(300)]
"""

for number in range(3000):
    space = {}
    exec(compile(SOURCE % (number % 7), "made %d" % number, "exec"), space)
    space["made_%d" % (number % 7)]()
    del space
print("done")
