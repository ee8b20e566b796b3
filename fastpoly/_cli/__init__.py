"""The command line: `app` reads the words, the other files do the work. Needs the extra `cli`, pictures `plot`."""
