@echo off
rem Starts the app on Windows. The first start installs what it needs into .venv, beside this file.
cd /d "%~dp0"
if exist .venv\installed goto start
echo Installing what the app needs into .venv, once: 470 MB on the disk, some minutes.
py -3 -m venv .venv || exit /b 1
.venv\Scripts\python -m pip install --quiet --requirement requirements.txt || exit /b 1
type nul > .venv\installed
:start
.venv\Scripts\python -m desktop
