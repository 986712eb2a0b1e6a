// What a folder's ignore files leave out: `.amlignore`, or `.gitignore` where there is none, in every folder, as git reads them.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { IgnoreRules } from './ignore-rules.ts';

/** Never part of a snapshot, whatever the ignore files say. */
export const alwaysLeftOut: ReadonlySet<string> = new Set([
  '.git',
  '.hg',
  '.svn',
  '.stellwerk',
  '.azureml',
  '__pycache__',
  '.ipynb_checkpoints',
  '.DS_Store',
]);

interface Rules {
  /** The folder they were read in, relative to the root and ending with a slash; empty for the root. */
  below: string;
  rules: IgnoreRules;
}

export class IgnoreFiles {
  private readonly root: string;
  private readonly stack: readonly Rules[];

  constructor(root: string, stack: readonly Rules[] = []) {
    this.root = root;
    this.stack = stack;
  }

  /** With the ignore file of a folder, if it has one. */
  entering(folder: string): IgnoreFiles {
    const file = ['.amlignore', '.gitignore'].map((name) => join(this.root, folder, name)).find(existsSync);
    if (!file) return this;
    const below = folder === '' ? '' : `${folder}/`;
    const rules = new IgnoreRules(readFileSync(file, 'utf8'));
    return new IgnoreFiles(this.root, [...this.stack, { below, rules }]);
  }

  /** The deepest file that says something of the path decides. */
  leavesOut(path: string, isFolder: boolean): boolean {
    for (const { below, rules } of this.stack.toReversed()) {
      const said = rules.says(path.slice(below.length), isFolder);
      if (said !== undefined) return said;
    }
    return false;
  }
}
