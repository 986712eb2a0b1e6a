// The file tree that a stack of layers stands for, worked out in memory before anything touches the disk.
// Links are followed as if the tree were the root of a machine: nothing in it can name what lies outside of it.
import { refused } from './layer-entry.ts';
import { cleanPath, type TarMember } from './tar-read.ts';

export interface FileNode {
  kind: 'file';
  mode: number;
  sizeBytes: number;
  /** Which layer of the stack holds the content, and which of that layer's members it is. */
  layer: number;
  ordinal: number;
  offset: number;
}
export interface LinkNode {
  kind: 'symlink';
  target: string;
}
export interface FolderNode {
  kind: 'directory';
  mode: number;
  children: Map<string, TreeNode>;
}
export type TreeNode = FileNode | LinkNode | FolderNode;

const whiteout = '.wh.';
const opaque = '.wh..wh..opq';
/** Of all layers together. */
const memberLimit = 2_000_000;
/** As many links in one path as Linux follows. */
const hopLimit = 40;

export class FileTree {
  readonly root: FolderNode = folder(0o755);
  #members = 0;

  /** Lays the next layer over the tree: first what it takes away from those below, then what it brings. */
  apply(layer: number, members: readonly TarMember[]): void {
    this.#members += members.length;
    if (this.#members > memberLimit)
      throw refused(`The image has more than ${memberLimit.toLocaleString('en')} files.`);
    for (const member of members) this.#takeAway(member.path);
    for (const [ordinal, member] of members.entries()) this.#bring(layer, ordinal, member);
  }

  /** What a path of the image leads to. Every link on the way is followed, the last part's only if `follow` is set. */
  find(path: string, follow = true): TreeNode | undefined {
    const [parent, name] = this.#parentOf(path, false);
    const node = name === '' ? this.root : parent?.children.get(name);
    return follow && node?.kind === 'symlink' ? this.#walk(path, 0, false) : node;
  }

  #takeAway(path: string): void {
    const name = path.slice(path.lastIndexOf('/') + 1);
    if (!name.startsWith(whiteout)) return;
    const [parent] = this.#parentOf(path, false);
    if (name === opaque) parent?.children.clear();
    else if (!name.startsWith('.wh..wh.')) parent?.children.delete(hidden(name));
  }

  #bring(layer: number, ordinal: number, member: TarMember): void {
    if (member.path === '') {
      this.root.mode = folderMode(member.mode);
      return;
    }
    const [parent, name] = this.#parentOf(member.path, true);
    if (!parent || name.startsWith(whiteout) || member.type === 'device') return;
    const old = parent.children.get(name);
    if (member.type === 'directory' && old?.kind === 'directory') old.mode = folderMode(member.mode);
    else parent.children.set(name, this.#nodeOf(layer, ordinal, member));
  }

  #nodeOf(layer: number, ordinal: number, member: TarMember): TreeNode {
    if (member.type === 'directory') return folder(folderMode(member.mode));
    if (member.type === 'symlink') return { kind: 'symlink', target: member.linkTarget };
    if (member.type === 'hardlink') return this.#linked(member);
    const { sizeBytes, offset } = member;
    return { kind: 'file', mode: (member.mode & 0o777) | 0o600, sizeBytes, layer, ordinal, offset };
  }

  #linked(member: TarMember): TreeNode {
    const target = this.find(member.linkTarget, false);
    if (!target || target.kind === 'directory') {
      throw refused(`The hard link "${member.path}" leads to "${member.linkTarget}", which is no file of the image.`);
    }
    return target;
  }

  /** The folder that holds the last part of a path, and that part. With `make`, folders that are missing are made. */
  #parentOf(path: string, make: boolean): [FolderNode | undefined, string] {
    const slash = path.lastIndexOf('/');
    const parent = slash < 0 ? this.root : this.#walk(path.slice(0, slash), 0, make);
    if (parent && parent.kind !== 'directory') {
      if (make) throw refused(`The path "${path}" goes through a file.`);
      return [undefined, path.slice(slash + 1)];
    }
    return [parent, path.slice(slash + 1)];
  }

  /** Follows a path from the root, and every link in it. */
  #walk(path: string, hops: number, make: boolean): TreeNode | undefined {
    const trail: FolderNode[] = [this.root];
    const parts = path.split('/').reverse();
    let found: TreeNode = this.root;
    while (parts.length > 0) {
      const part = parts.pop()!;
      if (part === '' || part === '.') continue;
      if (part === '..') {
        if (trail.length > 1) trail.pop();
        found = trail.at(-1)!;
        continue;
      }
      if (found.kind !== 'directory') return undefinedOrRefused(path, make);
      let next = found.children.get(part);
      if (next?.kind === 'symlink') {
        if (++hops > hopLimit) throw refused(`The path "${path}" goes through more than ${hopLimit} links.`);
        if (next.target.startsWith('/')) trail.length = 1;
        found = trail.at(-1)!;
        parts.push(...next.target.split('/').reverse());
        continue;
      }
      if (!next) {
        if (!make) return undefined;
        next = folder(0o755);
        found.children.set(part, next);
      }
      if (next.kind === 'directory') trail.push(next);
      found = next;
    }
    return found;
  }
}

function undefinedOrRefused(path: string, make: boolean): undefined {
  if (make) throw refused(`The path "${path}" goes through a file.`);
  return undefined;
}

function folder(mode: number): FolderNode {
  return { kind: 'directory', mode, children: new Map() };
}

function folderMode(mode: number): number {
  return (mode & 0o1777) | 0o700;
}

function hidden(name: string): string {
  return cleanPath(name.slice(whiteout.length));
}
