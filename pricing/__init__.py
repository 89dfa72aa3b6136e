"""The price of a second of film. Pure: no clock, no database, no float, only the standard library.

- `exact`, `money`: exact numbers; Money, the one rounding, split (lines that sum)
- `schema`, `window`: strict reading of documents; titles and time windows
- `rate_key`, `rate`, `rules`, `contract`, `book`: the dimensions of a price; the price book and its parts
- `usage`, `price`, `labels`: the inputs of a price; the price; its lines in words
- `receipt`, `check`: receipts and their replay; validation with a book's own worked examples
- `simulate`, `simulation_result`, `diff`: a draft on past jobs; the changes between two books
"""
