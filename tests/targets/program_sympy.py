"""A computation with SymPy: integrals, a series, an expansion, equations; its caches stay. PYTHONPATH has the packages."""

import serve

from sympy import Matrix, cos, diff, exp, expand, integrate, log, series, simplify, sin, solve, symbols

x, y, z = symbols("x y z")
results = [
    expand((x + y + z + 1) ** 14),
    series(exp(sin(x)), x, 0, 9),
    integrate(x ** 3 * exp(-x) * sin(x), x),
    simplify(sin(x) ** 4 + 2 * sin(x) ** 2 * cos(x) ** 2 + cos(x) ** 4),
    [diff(log(x ** 2 + y) / (n + z), x, 2) for n in range(60)],
    solve([x ** 2 + y - 3, x - y + 1], [x, y]),
    Matrix(4, 4, lambda i, j: x ** i + j).det(),
]

serve.serve()
