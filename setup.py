"""What pyproject.toml cannot say: the .pth file that stands beside the package, in site-packages itself."""

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithHook(build_py):
    def run(self):
        super().run()
        if not self.editable_mode:
            self.copy_file("python/pydefrag.pth", self.build_lib + "/pydefrag.pth")

    def get_outputs(self, include_bytecode=True):
        return [*super().get_outputs(include_bytecode), self.build_lib + "/pydefrag.pth"]


setup(cmdclass={"build_py": BuildWithHook})
