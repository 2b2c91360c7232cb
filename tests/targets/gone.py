"""Functions that go, and others that are made at their addresses, which allocate: gone.py.

What is known of one by its address is said of the next, if nobody notices that it has gone.
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
