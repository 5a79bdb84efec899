"""Core ML packages as a runtime: Core ML itself on macOS, elsewhere an executor of the program that a package holds.

`program` reads a saved package, `operations` says what each kind of operation computes, `executor` runs a program with
a chosen rounding, `runtime` stands behind the contract.
"""
