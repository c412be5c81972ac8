/**
 * The history, in this browser's IndexedDB: entries {id, when, settings, pictures}, newest first.
 * A picture is {model, steps, guidance_scale, size, sampler, seconds, waited, blob}; an entry has one for each model that drew.
 */

const NAME = "edgekd";
const ENTRIES = "entries";
const MOST = 500; // the oldest leave

const finished = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

const committed = (transaction) =>
  new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error);
  });

export class Store {
  #database;

  /** Rejects where the browser keeps nothing, as some do in private windows. */
  static async open() {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => {
      const entries = request.result.createObjectStore(ENTRIES, { keyPath: "id" });
      entries.createIndex("when", "when");
    };
    const store = new Store();
    store.#database = await finished(request);
    store.#database.onversionchange = () => store.#database.close();
    return store;
  }

  #write() {
    return this.#database.transaction(ENTRIES, "readwrite");
  }

  async put(entry) {
    const change = this.#write();
    const entries = change.objectStore(ENTRIES);
    entries.put(entry);
    const count = entries.count();
    count.onsuccess = () => {
      if (count.result <= MOST) return;
      const oldest = entries.index("when").getAllKeys(null, count.result - MOST);
      oldest.onsuccess = () => oldest.result.forEach((key) => entries.delete(key));
    };
    await committed(change);
  }

  async delete(id) {
    const change = this.#write();
    change.objectStore(ENTRIES).delete(id);
    await committed(change);
  }

  async clear() {
    const change = this.#write();
    change.objectStore(ENTRIES).clear();
    await committed(change);
  }

  async all() {
    const reading = this.#database.transaction(ENTRIES);
    return (await finished(reading.objectStore(ENTRIES).index("when").getAll())).reverse();
  }
}
