"""What a file or this machine needs, what is here, and the command that closes the gap.

kind           which of the known kinds of file a file is, by its content
*_needs        one kind of file -> findings
facts          this machine, gathered; machine_findings judges it
known_errors   an error message -> cause and command
"""
