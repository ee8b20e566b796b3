"""What the result files of bench/ say, as tables, as pictures, as one page.

`results` reads the files, `tables` and `curves` say what they mean, `html` and `markdown` print tables, `charts` draws
(matplotlib), `page` puts everything together. Nothing here measures. Without matplotlib the page has no pictures.
"""
