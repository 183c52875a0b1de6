"""How results are kept: passports and benchmark records."""
