"""The ground floor: errors and exit codes, parsing, files, progress and reports. It imports no other room."""
