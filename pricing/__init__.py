"""What a second of film costs, and why. Pure: no clock, no database, no float, nothing but the standard library.

- `exact`, `money`: exact numbers; Money, settle (the one rounding), split (lines that sum)
- `schema`, `window`, `rate`, `rules`, `contract`, `book`: strict reading; the price book and everything in it
- `usage`, `price`, `labels`: what is priced and for whom; the price; its lines in words
- `receipt`, `check`: receipts and their replay; validation with a book's own worked examples
- `simulate`, `simulation`, `epochs`, `diff`: a draft on the jobs of the past; what changed between two books
"""
