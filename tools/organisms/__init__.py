"""Model organisms: subjects with something in them whose truth is known, to try the other tools on."""
