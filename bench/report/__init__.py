"""What the result files of bench/ say, as tables, as pictures, as one page: `make report`.

`results` reads the files, `tables` and `curves` say what they mean, `charts` draws (matplotlib), `page` puts everything
into the template page.html (jinja2). Nothing here measures. Without matplotlib the page has no pictures.
"""
