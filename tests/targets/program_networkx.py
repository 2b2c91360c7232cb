"""A graph of NetworkX with 100,000 edges, and a few of its algorithms. PYTHONPATH has the packages."""

import random

import serve

import networkx

draw = random.Random(1).randrange
graph = networkx.Graph(name="planted")
pairs = {(draw(20000), draw(20000, 40000)) for _ in range(100000)}
for pair in pairs:
    graph.add_edge(*pair, weight=draw(1000) / 7)
for node in graph:
    graph.nodes[node]["label"] = "node %d" % node
components = list(networkx.connected_components(graph))
lengths = networkx.single_source_shortest_path_length(graph, next(iter(graph)))

serve.serve()
