"""Pages as a parser reads them."""

import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """A page's text, its elements with attributes, and whether all of them are closed."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def without_scripts(text):
    return re.sub("<script>.*?</script>", "", text, flags=re.S)


def check_page(path):
    """Fail where a page needs anything else, is not whole, or says less to who does not see it."""
    page = Page(path)
    for tag, attributes in page.elements:
        for key in ("src", "href", "srcset", "data", "action"):
            value = attributes.get(key, "#")
            assert value.startswith(("#", "data:image/")), (tag, value[:60])
    text = without_scripts(path.read_text(encoding="utf-8"))
    assert not re.search(r"@import|url\(", text)
    assert all(image["alt"] for image in page.all("img"))
    assert all(head["scope"] in ("row", "col", "colgroup") for head in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert page.all("html")[0]["lang"] == "en"
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [link["href"][1:] for link in page.all("a")]
    assert set(links) <= set(ids)
    sections = [attributes["id"] for attributes in page.all("section")]
    assert set(sections) - {"headlines"} <= set(links)
