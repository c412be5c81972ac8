package edgekd.app

import android.content.res.AssetManager
import edgekd.BundleError
import edgekd.Fields
import edgekd.Model
import java.io.File

/**
 * Copies the model from the app's assets to a folder, once: ONNX Runtime opens files. The folder
 * gets its name when every file in it is whole, so that a copy that was interrupted is made anew.
 */
class Unpacker(private val assets: AssetManager, private val folder: File) {
    /** The model, checked against its hashes. */
    fun open(): Model {
        val listing = assets.open("$ASSETS/${Model.FILE}").use { it.readBytes() }
        val kept = File(folder, Model.FILE)
        if (kept.isFile && kept.readBytes().contentEquals(listing)) {
            try {
                return Model.open(folder)
            } catch (error: BundleError) {
                folder.deleteRecursively()
            }
        }
        val growing = File(folder.path + ".tmp")
        growing.deleteRecursively()
        for (file in Model.listFiles(Fields.parse(Model.FILE, listing.decodeToString()))) {
            val target = File(growing, file.name)
            target.parentFile?.mkdirs()
            assets.open("$ASSETS/${file.name}").use { source ->
                target.outputStream().use { source.copyTo(it) }
            }
            file.check(growing)
        }
        File(growing, Model.FILE).writeBytes(listing)
        folder.deleteRecursively()
        if (!growing.renameTo(folder)) throw BundleError("the model's folder must be writable")
        return Model.open(folder)
    }

    private companion object {
        const val ASSETS = "model"
    }
}
