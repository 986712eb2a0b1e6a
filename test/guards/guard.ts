// An attack, what is in its way, and the test that sees it. `guards.test.ts` takes each guard away and expects that test to fail.

export interface Change {
  file: string;
  /** Part of the file, as it stands there once. */
  code: string;
  /** What stands there when the guard is gone. */
  without: string;
}

export interface Guard {
  /** What somebody tries, and with what. */
  attack: string;
  /** What is in the way, in a few words. */
  guard: string;
  /** More than one where one guard stands behind another: the attack comes through only when all are gone. */
  changes: readonly Change[];
  /** The file of the test, and words that its name has and no other of the file. */
  test: string;
  named: string;
}
