"""An interpreter that has done nothing but start."""

import sys

import serve

serve.serve()
