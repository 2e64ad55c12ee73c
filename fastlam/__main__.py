"""`python -m fastlam` is the command `fastlam`."""

from fastlam.cli import main

if __name__ == "__main__":
    main()
