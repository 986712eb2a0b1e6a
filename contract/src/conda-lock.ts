// What conda installed, as part of a lock: after the line `@EXPLICIT`, as in conda's own explicit files, the address of each package with its
// checksum; then the packages of pip. A lock without that line is pip's alone.
const head = '@EXPLICIT';
/** `https://conda.example.org/forge/noarch/tzdata-2025b-h78e105d_0.conda#4222072737ccff51314b5ece9c7d6f5a` */
export const condaAddress = /^(https?|file):\/\/\S+\/([\w.-]+?)-([^-/\s]+)-[^-/\s]+\.(conda|tar\.bz2)#[0-9a-f]{32,64}$/;

/** The lock with these packages in place of those of conda that it had. */
export function withCondaPackages(lock: string, packages: readonly string[]): string {
  const { rest } = splitCondaLock(lock);
  const own = rest.replace(/^\n+/, '');
  return packages.length === 0 ? own : `${[head, ...[...packages].sort()].join('\n')}\n${own}`;
}

/** conda's packages, and all else with its line numbers kept. */
export function splitCondaLock(text: string): { packages: string[]; rest: string } {
  const lines = text.split(/\r?\n/);
  if (!lines.some((line) => line.trim() === head)) return { packages: [], rest: text };
  const isConda = (line: string) => condaAddress.test(line.trim()) || line.trim() === head;
  return {
    packages: lines.map((line) => line.trim()).filter((line) => condaAddress.test(line)),
    rest: lines.map((line) => (isConda(line) ? '' : line)).join('\n'),
  };
}
