import { describe, isNd, type NdView, packed, type TypedArray } from '../nd.js';

/** A snapshot's arrays by name, as they were made or as a reader of files gives them. */
export type SnapshotArrays = Readonly<Record<string, NdView<TypedArray> | TypedArray>>;

/**
 * An array of a snapshot.
 *
 * @throws TypeError when it is missing or of another type
 */
export function expectArray<T extends TypedArray>(
  what: string,
  snapshot: SnapshotArrays,
  name: string,
  store: new () => T,
): T {
  const given = snapshot[name];
  const array = isNd(given) ? packed(given) : given;
  if (!(array instanceof store)) {
    throw new TypeError(`${what}: ${name} must be a ${store.name}, got ${describe(given)}`);
  }
  return array;
}
