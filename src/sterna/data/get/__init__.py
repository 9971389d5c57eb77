"""Fetching data sets from publishers, mirrors or archives at hand into one layout, whole or not."""
