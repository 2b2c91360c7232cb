"""lxml: trees parsed, searched, transformed and written, always to the same bytes."""

import random

from churn import repeat
from lxml import etree, objectify

SHEET = etree.XSLT(
    etree.XML(
        """<x:stylesheet version="1.0" xmlns:x="http://www.w3.org/1999/XSL/Transform">
        <x:template match="/"><out><x:for-each select="//item[@n &gt; 20]"><x:sort select="@name"/>
        <i><x:value-of select="text()"/></i></x:for-each></out></x:template></x:stylesheet>"""
    )
)


def make(n):
    chance = random.Random(n)
    root = etree.Element("root", n=str(n))
    for i in range(80):
        item = etree.SubElement(root, "item", name=chance.randbytes(6).hex(), n=str(i))
        item.text = chance.randbytes(chance.randrange(1, 60)).hex()
        etree.SubElement(item, "leaf").tail = "tail"
    tree = etree.fromstring(etree.tostring(root))
    assert len(tree.xpath("//item[@n < 20]")) == 20
    assert objectify.fromstring(etree.tostring(tree)).item[3].get("n") == "3"
    for item in tree.findall("item")[::5]:
        tree.remove(item)
    return tree


repeat(make, lambda tree: etree.tostring(tree, method="c14n") + bytes(SHEET(tree)))
