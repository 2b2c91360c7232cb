"""A Django project, as `startproject` and `startapp` make it, after its `check`. PYTHONPATH has the packages."""

import os
import sys
import tempfile

import serve

from django.core.management import call_command, execute_from_command_line

MODELS = """
from django.db import models

class Author(models.Model):
    name = models.CharField(max_length=100)

class Book(models.Model):
    title = models.CharField(max_length=200)
    author = models.ForeignKey(Author, on_delete=models.CASCADE)
    published = models.DateField(null=True)
"""

folder = tempfile.TemporaryDirectory()
os.chdir(folder.name)
execute_from_command_line(["django-admin", "startproject", "shop", "."])
execute_from_command_line(["django-admin", "startapp", "books"])
with open("books/models.py", "w") as models:
    models.write(MODELS)
with open("shop/settings.py", "a") as settings:
    settings.write("\nINSTALLED_APPS += ['books']\n")
sys.path.insert(0, folder.name)
os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"

import django

django.setup()
call_command("check")
folder.cleanup()

serve.serve()
