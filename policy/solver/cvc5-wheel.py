#!/usr/bin/env python3
"""cvc5 from PyPI (`pip install cvc5`, a library without a program) as an SMT-LIB process on stdin and stdout.

    CVC5=policy/solver/cvc5-wheel.py sallyport policy check

A round ends with (check-sat), (get-model), (reset) or (exit) alone on a line. What cvc5 reports as
"unknown (TIMEOUT)" is said as plain "unknown", and whatever goes wrong ends the process: no answer is no proof.
"""
import sys

import cvc5

if "--version" in sys.argv:
    print("This is cvc5 version", cvc5.__version__)
    sys.exit(0)

OPTIONS = [argument[2:].split("=", 1) for argument in sys.argv[1:] if argument.startswith("--") and "=" in argument]
ROUND = {"(check-sat)", "(get-model)", "(exit)"}


class Session:
    def __init__(self):
        self.terms = cvc5.TermManager()
        self.solver = cvc5.Solver(self.terms)
        for key, value in OPTIONS:
            self.solver.setOption(key, value)
        self.symbols = cvc5.SymbolManager(self.terms)
        self.parser = cvc5.InputParser(self.solver, self.symbols)
        self.parser.setIncrementalStringInput(cvc5.InputLanguage.SMT_LIB_2_6, "policy")

    def run(self, text):
        self.parser.appendIncrementalStringInput(text)
        while True:
            command = self.parser.nextCommand()
            if command.isNull():
                return
            said = command.invoke(self.solver, self.symbols)
            if said:
                sys.stdout.write("unknown\n" if said.startswith("unknown") else said)
                sys.stdout.flush()


def main():
    session, lines = Session(), []
    for line in sys.stdin:
        word = line.strip()
        if word == "(reset)":
            session, lines = Session(), []
            continue
        lines.append(line)
        if word not in ROUND:
            continue
        if word == "(exit)":
            return
        try:
            session.run("".join(lines))
        except Exception as error:
            text = str(error).replace('"', "'").replace("\n", " ")
            sys.stdout.write(f'(error "Parse Error: {text}")\n')
            sys.stdout.flush()
            return
        lines = []


main()
