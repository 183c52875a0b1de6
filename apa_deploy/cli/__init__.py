"""Command-line verbs: parse, call one function of the library, print one result."""
