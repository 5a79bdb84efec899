"""Commands that ill-treat the program: `make test-full-disk`, disks that fill; `make test-kills`, sudden ends."""
